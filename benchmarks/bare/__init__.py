"""What the limit is made of: rows, shuffles, codecs and files. Nothing of lazyio."""
