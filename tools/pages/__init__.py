"""Puts the site's pages together: what is written by hand, and what is made from the code."""
