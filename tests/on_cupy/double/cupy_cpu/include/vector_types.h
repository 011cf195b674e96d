#include "emulator.h"  // everything is there; not NVIDIA's header
