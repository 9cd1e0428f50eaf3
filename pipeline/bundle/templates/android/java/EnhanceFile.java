package earshot;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Paths;

/** A file of 32-bit floats through the model: java -Djava.library.path=BUILD -cp CLASSES earshot.EnhanceFile IN OUT. */
public final class EnhanceFile {
    private EnhanceFile() {}

    /** The last hop is filled up with silence. */
    public static void main(String[] names) throws IOException {
        byte[] content = Files.readAllBytes(Paths.get(names[0]));
        FloatBuffer sound = ByteBuffer.wrap(content).order(ByteOrder.nativeOrder()).asFloatBuffer();
        float[] heard = new float[StreamEnhancer.hop() * StreamEnhancer.microphones()];
        float[] enhanced = new float[StreamEnhancer.hop()];
        int hops = (sound.remaining() + heard.length - 1) / heard.length;
        ByteBuffer out = ByteBuffer.allocate(hops * enhanced.length * Float.BYTES).order(ByteOrder.nativeOrder());
        StreamEnhancer.reset();
        while (sound.hasRemaining()) {
            int count = Math.min(heard.length, sound.remaining());
            java.util.Arrays.fill(heard, count, heard.length, 0f);
            sound.get(heard, 0, count);
            StreamEnhancer.enhance(heard, enhanced);
            for (float sample : enhanced) {
                out.putFloat(sample);
            }
        }
        Files.write(Paths.get(names[1]), out.array());
    }
}
