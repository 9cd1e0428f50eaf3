/* Digests of the network's outputs, one a frame, as TensorFlow Lite's reference kernels make them. */
#define EXPECTED_FRAMES @FRAMES@

static const unsigned expected[EXPECTED_FRAMES] = {
    @DIGESTS@};
