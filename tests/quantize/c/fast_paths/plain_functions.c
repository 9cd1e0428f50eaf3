#define PREFIX plain_
#include "bodies.h"
