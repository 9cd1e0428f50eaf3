/* -DMACHINE=1 is dsp.h, 2 is mve.h; plain_functions.c must see neither name. */
#if MACHINE == 1
#define EARSHOT_DSP
#elif MACHINE == 2
#define EARSHOT_MVE
#endif
#define PREFIX fast_
#include "bodies.h"
