"""Mask engines behind one port (`base.MaskEngine`)."""
