package earshot;

/** Sound in, enhanced sound out, hop by hop. One stream a process: the network's states are static. */
public final class StreamEnhancer {
    static {
        System.loadLibrary("earshot");
    }

    private StreamEnhancer() {}

    /** Sample rate, Hz. */
    public static native int rate();

    /** Samples a call takes and gives, of each microphone. */
    public static native int hop();

    /** Samples from an input sample to its enhanced form. */
    public static native int delay();

    /** Their samples stand side by side. */
    public static native int microphones();

    private static native void start();

    private static native void process(float[] heard, float[] enhanced);

    /** A new stream. */
    public static synchronized void reset() {
        start();
    }

    /**
     * The next hop.
     *
     * @param heard hop() * microphones() samples, full scale 1
     * @param enhanced receives hop() samples
     */
    public static synchronized void enhance(float[] heard, float[] enhanced) {
        if (heard.length != hop() * microphones() || enhanced.length != hop()) {
            throw new IllegalArgumentException(
                    "a call takes " + hop() * microphones() + " samples and gives " + hop() + ", not "
                            + heard.length + " and " + enhanced.length);
        }
        process(heard, enhanced);
    }
}
