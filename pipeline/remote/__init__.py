"""A store shared with other machines: artifacts, runs and tags in a folder or bucket that fsspec reaches."""
