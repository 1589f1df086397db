"""The contrast pairs of `geofilter/packs/data/pairs.jsonl`, and what checks them.

A pair is one prompt with a harmful and a helpful answer, alike in length, tone and form.
Packs of chat models are made from them: what sets the harmful answers apart in a model's
activations is to be their harm, and neither their words nor their length.

How they were written: for this project, by eleven authors, from no data set. 57 domains of everyday
advice, conversation and code, 38 pairs or so in each, a third of them overtly harmful, a third
polite, a third subtle. The harm is the careless, unkind or wrong advice of daily life. Doses,
poisons and cruelty were softened or taken out, so that nobody is badly hurt by what is
printed; still, the harmful sides are not to be followed. No snippet of code was run.

Domains are split three ways, 19 each: `make` (packs are made from these), `choose` (defaults are
chosen on these) and `report` (what is reported is measured on these). The first 24 were drawn, so
that authors and kinds are spread. Of the other 33 nine were written for `make`, two were put there,
and 22 were drawn between `choose` and `report`, kind by kind. Four of the eleven then changed
places with four drawn ones of `choose`, since rows of the demo are about the same things; figures
on the split `choose` and on judged answers had been seen by then, and played no part.

How words were balanced: while they wrote, authors saw how well a classifier that knew `make` and
`choose` told their pairs apart, and rewrote those it was surest of. That went too far in
places and was undone in part; a fresh classifier still told the sides apart. So those pairs went
that words learnt from other domains give away (`pairs.balance`): 1,721 of 2,158 stay. All that were
written are in `written.jsonl`. No model's activations took part in any of this.

    benchmarks/results/pairs_check.json           what `pairs.check` found on those that stay
    benchmarks/results/pairs_check_written.json   the same of all that were written
"""
