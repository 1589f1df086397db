"""The demo, act by act: real text first, then the organism.

`real_text` scores the rows of `data/advice.jsonl` with SmolLM2; `organism` shows the
machinery, and what training does, in a made-up world.
"""
