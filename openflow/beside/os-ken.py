"""Times os-ken: for each line of hexadecimal digits the seconds to decode it and to encode it again."""
import logging
import sys
import time

logging.disable(logging.CRITICAL)
from os_ken.ofproto import ofproto_parser, ofproto_protocol, ofproto_v1_3  # noqa: E402
from os_ken.ofproto import ofproto_v1_3_parser  # noqa: E402,F401

ROUNDS = 7


def median(work):
    times = []
    try:
        for _ in range(ROUNDS):
            start, calls = time.perf_counter(), 0
            while time.perf_counter() - start < 0.1:
                work()
                calls += 1
            times.append((time.perf_counter() - start) / calls)
    except Exception:  # it cannot do that
        return float("nan")
    return sorted(times)[len(times) // 2]


datapath = ofproto_protocol.ProtocolDesc(version=ofproto_v1_3.OFP_VERSION)
for line in sys.stdin:
    data = bytes.fromhex(line)
    header = ofproto_parser.header(data)

    def decode():
        return ofproto_parser.msg(datapath, *header, data)

    message = decode()

    def encode():
        message.buf = None
        message.serialize()

    def encodes():
        try:
            encode()
        except Exception:  # noqa: BLE001
            return False
        return bytes(message.buf) == data

    print(median(decode), median(encode) if encodes() else float("nan"))
