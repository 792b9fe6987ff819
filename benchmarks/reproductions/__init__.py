"""Published claims about samplers, measured again: one file per reproduction over a small framework."""
