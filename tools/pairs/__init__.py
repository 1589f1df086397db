"""The contrast pairs of `geofilter/packs/data/pairs.jsonl`, and what checks them.

A pair is one prompt with a harmful and a helpful answer, alike in length, tone and form.
Packs of chat models will be made from them: what sets the harmful answers apart in a
model's activations is to be their harm, and neither their words nor their length.

How they were written: by hand for this project, by three authors, from no data set. 24
domains of everyday advice, conversation and code, about 39 pairs in each, a third of them
overtly harmful, a third polite, a third subtle. The harm is the careless, unkind or wrong
advice of daily life. Doses, poisons and cruelty were softened or taken out, so that nobody
is badly hurt by what is printed; still, the harmful sides are not to be followed. Pairs on
the same matter in two splits were taken out as well.

Domains are split three ways, eight each, by a draw that was made before the pairs were
balanced and that spreads authors and kinds: `make` (packs are made from these), `choose`
(defaults are chosen on these) and `report` (what is reported is measured on these).

How they were balanced: where a word or two neighbouring words stood more often on one side
in the domains of `make` and `choose`, answers there were rewritten until it did so less.
Nobody looked at which words tell in `report`: its answers were rewritten where they went too
far or read stiffly, most in `medicines` and `repair`, though its figure was seen now and then
while that went on. So the column of `report` that `python -m pairs.check` prints says how far
the words of domains that were not balanced give the sides away: just below 0.60 with
neighbouring words, the limit, where the two others lie at 0.53. Balancing two thirds did not
lower the third. A change of the pairs has to keep to this, or say that it did not.

`benchmarks/results/pairs_check.json` holds what the checker found, and under `as_written`
what it found on the 936 pairs as their authors had written them.
"""
