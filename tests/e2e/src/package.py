"""What `sam package` does, for the emulator: template.yaml as JSON on standard output, and one zip per binary.

Usage: package.py TEMPLATE MODULE BINARIES OUT NAME...
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from samtranslator.yaml_helper import yaml_parse

template, module, binaries, out, *names = sys.argv[1:]
for name in names:
    bootstrap = Path(out, name)
    subprocess.run(["strip", "-o", bootstrap, Path(binaries, name)], check=True)
    # Barely packed: it is for this machine only.
    with zipfile.ZipFile(Path(out, name + ".zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        package.write(bootstrap, "bootstrap")
        package.write(module, "module.yaml")
print(json.dumps(yaml_parse(Path(template).read_text())))
