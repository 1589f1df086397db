"""How the bundled model organism was made: its world, its texts, its training and its SAEs.

`PYTHONPATH=tools python -m organism.build -o FOLDER` makes it again from seed 0. The package
`geofilter.organism` holds what came out: weights and data.
"""
