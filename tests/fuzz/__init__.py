"""Mutated real DICOM files against the firewall, the index and the reader."""
