"""What tasks in this process print: passed on in whole lines, and kept for their failures."""
