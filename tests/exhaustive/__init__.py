"""Every loss with every set of options that its definition names, through the tests that the default tier runs for kinds of operation."""
