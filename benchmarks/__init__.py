"""Speed and saving, measured: one script a question, the results as JSON beside them.

`python -m benchmarks` measures what is missing on this machine, prints one table and redraws the
figure. The package needs torch, numpy, tokenizers and safetensors alone; what others bring
(transformers, matplotlib, ipywidgets) is left out loudly where it is absent.
"""
