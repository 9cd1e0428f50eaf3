/* The generated C for Java and Kotlin: earshot.StreamEnhancer's native methods. */
#include "model_frontend.h"

#include <jni.h>

static float hop[MODEL_HOP * MODEL_CHANNELS], enhanced[MODEL_HOP];

JNIEXPORT jint JNICALL Java_earshot_StreamEnhancer_rate(JNIEnv *env, jclass type) {
    (void)env, (void)type;
    return MODEL_RATE;
}

JNIEXPORT jint JNICALL Java_earshot_StreamEnhancer_hop(JNIEnv *env, jclass type) {
    (void)env, (void)type;
    return MODEL_HOP;
}

JNIEXPORT jint JNICALL Java_earshot_StreamEnhancer_delay(JNIEnv *env, jclass type) {
    (void)env, (void)type;
    return MODEL_DELAY;
}

JNIEXPORT jint JNICALL Java_earshot_StreamEnhancer_microphones(JNIEnv *env, jclass type) {
    (void)env, (void)type;
    return MODEL_CHANNELS;
}

JNIEXPORT void JNICALL Java_earshot_StreamEnhancer_start(JNIEnv *env, jclass type) {
    (void)env, (void)type;
    model_reset();
    model_frontend_reset();
}

/* Lengths are checked by the caller. */
JNIEXPORT void JNICALL Java_earshot_StreamEnhancer_process(JNIEnv *env, jclass type, jfloatArray in, jfloatArray out) {
    (void)type;
    (*env)->GetFloatArrayRegion(env, in, 0, MODEL_HOP * MODEL_CHANNELS, hop);
    model_enhance(hop, enhanced);
    (*env)->SetFloatArrayRegion(env, out, 0, MODEL_HOP, enhanced);
}
