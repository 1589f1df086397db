"""The proof: fine-tune with and without the filter, ask, judge, and compare the arms."""
