#!/usr/bin/env python3
"""An independent reader of the two statistics streams.

Written from the published layout alone; it shares nothing with the kernel or
its library.  It reads the raw bytes of kern.malloc_stats or vm.zone_stats from
a file and prints one JSON document: every type or zone, and the totals.

    streams.py malloc FILE
    streams.py zones FILE

Sizes are checked exactly: a stream that is one byte too long or too short is
an error.  Exit codes: 0 read; 1 the stream is wrong; 2 usage.
"""
import json
import struct
import sys

STREAM_HEADER = struct.Struct("<IIII")
MALLOC_HEADER = struct.Struct("<32s")
MALLOC_PERCPU = struct.Struct("<8Q")
ZONE_HEADER = struct.Struct("<32s10I6Q")
ZONE_PERCPU = struct.Struct("<8Q")
ZONE_WORDS = ("align", "size", "rsize", "maxpages", "limit", "pages", "keg_free", "zone_free",
              "bucketsize", "flags")
SECONDARY = 1
MODULUS = 1 << 64


class Wrong(Exception):
    """The bytes are not the stream they should be."""


def text(raw):
    """A zero-padded name; the padding behind the NUL must be zero."""
    name, _, rest = raw.partition(b"\0")
    if len(name) > 31:
        raise Wrong("a name fills its field: no NUL")
    if rest.strip(b"\0"):
        raise Wrong("bytes behind a name's NUL: %r" % raw)
    return name.decode("utf-8")


def open_stream(data, per_type, percpu):
    if len(data) < STREAM_HEADER.size:
        raise Wrong("%d bytes are too few for a header" % len(data))
    version, cpus, count, pad = STREAM_HEADER.unpack_from(data)
    if version != 1:
        raise Wrong("version %d, not 1" % version)
    if pad != 0:
        raise Wrong("padding %d, not 0" % pad)
    size = STREAM_HEADER.size + count * (per_type.size + cpus * percpu.size)
    if len(data) != size:
        raise Wrong("%d bytes; %d types on %d CPUs make %d" % (len(data), count, cpus, size))
    return cpus, count


def read_malloc(data):
    cpus, count = open_stream(data, MALLOC_HEADER, MALLOC_PERCPU)
    at = STREAM_HEADER.size
    types = []
    for _ in range(count):
        name = text(MALLOC_HEADER.unpack_from(data, at)[0])
        at += MALLOC_HEADER.size
        sums = [0, 0, 0, 0]
        mask = 0
        for _ in range(cpus):
            record = MALLOC_PERCPU.unpack_from(data, at)
            at += MALLOC_PERCPU.size
            if any(record[5:]):
                raise Wrong("%s: reserved words are not zero" % name)
            sums = [a + b for a, b in zip(sums, record)]
            mask |= record[4]
        alloced, freed, allocs, frees = (s % MODULUS for s in sums)
        types.append({
            "name": name,
            "memalloced": alloced,
            "memfreed": freed,
            "requests": allocs,
            "frees": frees,
            "inuse": (allocs - frees) % MODULUS,
            "memuse": (alloced - freed) % MODULUS,
            "sizes": [16 << bit for bit in range(60) if mask >> bit & 1],
        })
    keys = ("memalloced", "memfreed", "requests", "frees", "inuse", "memuse")
    return {"stream": "kern.malloc_stats", "cpus": cpus, "count": count, "types": types,
            "total": {k: sum(t[k] for t in types) for k in keys}}


def read_zones(data):
    cpus, count = open_stream(data, ZONE_HEADER, ZONE_PERCPU)
    at = STREAM_HEADER.size
    zones = []
    for _ in range(count):
        fields = ZONE_HEADER.unpack_from(data, at)
        at += ZONE_HEADER.size
        zone = {"name": text(fields[0])}
        zone.update(zip(ZONE_WORDS, fields[1:11]))
        allocs, frees, fails, sleeps, xdomain, reserved = fields[11:]
        if reserved:
            raise Wrong("%s: the reserved word is not zero" % zone["name"])
        cached = 0
        for _ in range(cpus):
            record = ZONE_PERCPU.unpack_from(data, at)
            at += ZONE_PERCPU.size
            if any(record[3:]):
                raise Wrong("%s: reserved words are not zero" % zone["name"])
            allocs += record[0]
            frees += record[1]
            cached += record[2]
        zone["secondary"] = bool(zone["flags"] & SECONDARY)
        keg_free = 0 if zone["secondary"] else zone["keg_free"]
        zone.update(requests=allocs % MODULUS, frees=frees % MODULUS, fail=fails, sleep=sleeps,
                    xdomain=xdomain, cache_free=cached, used=(allocs - frees) % MODULUS,
                    free=cached + zone["zone_free"] + keg_free)
        zone["memuse"] = zone["used"] * zone["size"]
        zones.append(zone)
    keys = ("requests", "frees", "used", "free", "fail", "sleep", "memuse", "pages")
    return {"stream": "vm.zone_stats", "cpus": cpus, "count": count, "zones": zones,
            "total": {k: sum(z[k] for z in zones) for k in keys}}


def main(argv):
    readers = {"malloc": read_malloc, "zones": read_zones}
    if len(argv) != 3 or argv[1] not in readers:
        print("usage: streams.py malloc|zones FILE", file=sys.stderr)
        return 2
    try:
        with open(argv[2], "rb") as f:
            data = f.read()
        print(json.dumps(readers[argv[1]](data)))
        return 0
    except OSError as e:
        print("streams.py: %s: %s" % (argv[2], e.strerror), file=sys.stderr)
        return 1
    except (Wrong, UnicodeDecodeError) as e:
        print("streams.py: %s: %s" % (argv[2], e), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
