"""The report: one HTML file about a scored data set, for people who look rather than read.

`write.write_report` makes it of a score table and its data. It opens without a
network, and its one script is its own; rows are hostile, and in it they are text and nothing else.
"""
