# The face for people. Each target installs what it needs (Debian); the work is xtask's.

.PHONY: demo test bench init install lint

demo:    ; tools/packages demo && cargo xtask demo
test:    ; tools/packages test && cargo xtask test
bench:   ; tools/packages bench && cargo xtask bench
init:    ; tools/packages build && cargo xtask init
lint:    ; tools/packages build lint && cargo xtask lint
install: ; tools/packages build && cargo xtask install
