"""Snakemake wrapper of `unettile segment`: an image to its mask.

input:   image; model, a file, unless params.model names a shipped one
output:  the mask, whose ending is its format
params:  model, a name; extra, further options
threads: those of the computation
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

job = snakemake  # noqa: F821 (Snakemake defines it)

command = ["unettile", "segment", job.input.get("image", job.input[0]), "-o", job.output[0]]
model = job.input.get("model") or job.params.get("model")
if model:
    command += ["--model", model]
command += shlex.split(job.params.get("extra", ""))
environ = os.environ | {"OMP_NUM_THREADS": str(job.threads)}
done = subprocess.run(list(map(str, command)), env=environ, capture_output=True, text=True)
for log in job.log[:1]:
    Path(log).write_text(done.stdout + done.stderr, "utf-8")
if done.returncode:
    sys.stderr.write(done.stderr)
    sys.exit(done.returncode)
