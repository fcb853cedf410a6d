"""python -m imgsync"""

from imgsync.entrypoints.cli.main import main

main(prog_name="imgsync")
