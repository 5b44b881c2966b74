"""Where arrays come from: one adapter a format, all of one Protocol."""
