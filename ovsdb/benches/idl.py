"""Loads a whole database with the Python IDL of Open vSwitch; prints the seconds from the first connection attempt to the complete replica, and the rows of Interface."""
import sys
import time

import ovs.db.idl
import ovs.poller

remote, schema = sys.argv[1:3]
helper = ovs.db.idl.SchemaHelper(location=schema)
helper.register_all()
start = time.monotonic()
idl = ovs.db.idl.Idl(remote, helper)
while not idl.has_ever_connected():
    idl.run()
    if idl.has_ever_connected():
        break
    poller = ovs.poller.Poller()
    idl.wait(poller)
    poller.block()
print(time.monotonic() - start, len(idl.tables["Interface"].rows))
