"""The law of the toolkit: whatever hides a lesion that an honest reader could miss, no answer is a silent "no, all"."""
