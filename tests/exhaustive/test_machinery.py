"""Every mode for every loss."""

from tests.test_machinery import TestJax, TestOtherLibraries, TestParts, TestTorch, test_blocks_and_threads
