"""Arrays that grow by what is appended."""
