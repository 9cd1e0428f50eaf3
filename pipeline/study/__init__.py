"""Studies: teachers, students, methods and seeds in all combinations, on the same data."""
