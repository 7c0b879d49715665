"""The inside of the development Tika server: a pool of parser processes that can be killed."""
