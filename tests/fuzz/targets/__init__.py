"""The fuzzers' targets: `NAME.c` has LLVMFuzzerTestOneInput, `NAME.py` a function `one` and its INSTRUMENT."""
