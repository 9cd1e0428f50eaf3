package earshot

import android.annotation.SuppressLint
import android.media.AudioAttributes
import android.media.AudioFormat
import android.media.AudioRecord
import android.media.AudioTrack
import android.media.MediaRecorder
import kotlin.concurrent.thread

/** Microphone to loudspeaker or headphones, until [close]. The app holds the permission RECORD_AUDIO. */
class LiveEnhancer : AutoCloseable {
    @Volatile private var running = true
    private val worker = thread(name = "earshot", priority = Thread.MAX_PRIORITY) { stream() }

    @SuppressLint("MissingPermission")
    private fun stream() {
        val rate = StreamEnhancer.rate()
        val heard = FloatArray(StreamEnhancer.hop() * StreamEnhancer.microphones())
        val enhanced = FloatArray(StreamEnhancer.hop())
        val channels = if (StreamEnhancer.microphones() == 2) AudioFormat.CHANNEL_IN_STEREO else AudioFormat.CHANNEL_IN_MONO
        val encoding = AudioFormat.ENCODING_PCM_FLOAT
        val least = AudioRecord.getMinBufferSize(rate, channels, encoding)
        val microphone = AudioRecord(MediaRecorder.AudioSource.VOICE_RECOGNITION, rate, channels, encoding, least)
        val loudspeaker = AudioTrack.Builder()
            .setAudioAttributes(AudioAttributes.Builder().setUsage(AudioAttributes.USAGE_VOICE_COMMUNICATION).build())
            .setAudioFormat(
                AudioFormat.Builder().setSampleRate(rate).setEncoding(encoding)
                    .setChannelMask(AudioFormat.CHANNEL_OUT_MONO).build()
            )
            .setPerformanceMode(AudioTrack.PERFORMANCE_MODE_LOW_LATENCY)
            .build()
        try {
            StreamEnhancer.reset()
            microphone.startRecording()
            loudspeaker.play()
            while (running && microphone.read(heard, 0, heard.size, AudioRecord.READ_BLOCKING) == heard.size) {
                StreamEnhancer.enhance(heard, enhanced)
                loudspeaker.write(enhanced, 0, enhanced.size, AudioTrack.WRITE_BLOCKING)
            }
        } finally {
            microphone.release()
            loudspeaker.release()
        }
    }

    override fun close() {
        running = false
        worker.join()
    }
}
