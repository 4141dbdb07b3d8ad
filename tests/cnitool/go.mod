// How container runtimes call plugins: the libcni that containerd and CRI-O use, with a command line.
module cnitool

go 1.25

tool github.com/containernetworking/cni/cnitool

require github.com/containernetworking/cni v1.3.0 // indirect
