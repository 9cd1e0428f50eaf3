"""The five stages, one module each: typed inputs and a typed config in, an artifact out."""
