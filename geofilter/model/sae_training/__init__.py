"""Train an SAE for a model that has none, on rows of one's own; a thin layer over sae-lens.

`plan`: how many latents, tokens and steps; `texts`: rows as tokens; `store`: their residual
streams in a file of bounded size; `train`: the steps; `measure`: what the SAE is worth.
"""
