"""Packages in the forms of other toolkits: an ONNX file, a MONAI bundle."""
