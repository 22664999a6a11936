"""What tests of every role share: a clock that jumps, certificates, roles served inside the test's process."""
