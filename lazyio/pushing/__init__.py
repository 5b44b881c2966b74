"""Arrays that are pushed to: they grow by what is appended, as it comes."""
