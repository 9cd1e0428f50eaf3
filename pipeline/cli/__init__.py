"""The command line. Only this package and the report renderers print."""
