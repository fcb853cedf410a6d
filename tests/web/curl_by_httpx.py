"""What docs/api.md uses of curl, for machines that have none: the same lines by httpx."""

import argparse
import sys

import httpx

parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
parser.add_argument("-s", action="store_true")
parser.add_argument("-H", action="append", default=[])
parser.add_argument("-X")
parser.add_argument("--json")
parser.add_argument("url")
given = parser.parse_args()
headers = dict(line.split(": ", 1) for line in given.H)
if given.json is not None:
    headers |= {"Content-Type": "application/json", "Accept": "application/json"}
method = given.X or ("GET" if given.json is None else "POST")
sys.stdout.write(httpx.request(method, given.url, headers=headers, content=given.json).text)
