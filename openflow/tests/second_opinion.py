#!/usr/bin/env python3
"""A second opinion on the vectors from os-ken, another implementation of OpenFlow 1.3.

    make target/os-ken/installed
    target/os-ken/bin/python openflow/tests/second_opinion.py openflow/tests/vectors

Each vector that os-ken can read must have the type, length and transaction id that we say, and, where os-ken can write
such messages, come out of it with the same bytes, padding aside. Exit status 1 if it reads one differently.
"""
import logging
import pathlib
import signal
import struct
import sys

logging.disable(logging.CRITICAL)
from os_ken.ofproto import ofproto_parser, ofproto_protocol, ofproto_v1_3  # noqa: E402
from os_ken.ofproto import ofproto_v1_3_parser  # noqa: E402,F401

HEADER = struct.Struct("!BBHI")


def vectors(path):
    for block in path.read_text().split("\n\n"):
        hexdigits = "".join(line.split("#")[0] for line in block.splitlines())
        title = next((line[2:] for line in block.splitlines() if line.startswith("# ")), "")
        yield title, bytes.fromhex(hexdigits)


def give_up(*_):
    raise TimeoutError


def main(folder):
    # Of some lists that it does not know it never finds the end.
    signal.signal(signal.SIGALRM, give_up)
    datapath = ofproto_protocol.ProtocolDesc(version=ofproto_v1_3.OFP_VERSION)
    read = same = unread = 0
    different = []
    for path in sorted(pathlib.Path(folder).glob("*.hex")):
        for title, data in vectors(path):
            version, kind, length, xid = HEADER.unpack_from(data)
            signal.alarm(2)
            try:
                message = ofproto_parser.msg(datapath, version, kind, length, xid, data)
            except Exception:  # os-ken has many ways to give up ...
                message = None
            signal.alarm(0)
            if message is None:  # ... and reads hardly any request: it is a controller
                unread += 1
                continue
            if (message.msg_type, message.msg_len, message.xid) != (kind, length, xid):
                different.append(f"{title}: read as {message}")
                continue
            read += 1
            try:
                message.buf = None
                message.serialize()
                again = bytes(message.buf)
            except Exception:  # it cannot write what a switch sends
                continue
            if again == data:
                same += 1
            elif len(again) == len(data) and kind == ofproto_v1_3.OFPT_FLOW_MOD:
                different.append(f"{title}\n  ours   {data.hex()}\n  os-ken {again.hex()}")
    print(f"os-ken read {read} vectors, {same} of them come out with the same bytes; {unread} it cannot read")
    for line in different:
        print(line)
    return 1 if different or not read else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
