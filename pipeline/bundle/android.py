"""For Android: the model as C behind JNI, tried in a desktop's Java; and LiteRT beside it."""

from __future__ import annotations

from earshot.pipeline.bundle.generated import generated_c
from earshot.pipeline.bundle.part import Entry, Part, template
from earshot.pipeline.shipped import Shipped
from earshot.quantize.metadata import read_description

_FILES = {
    "android/cpp/CMakeLists.txt": ("android/cpp/CMakeLists.txt", "builds libearshot.so"),
    "android/cpp/earshot_jni.c": ("android/cpp/earshot_jni.c", "the C for Java and Kotlin"),
    "android/java/StreamEnhancer.java": ("android/java/StreamEnhancer.java", "what an app calls"),
    "android/java/EnhanceFile.java": ("android/java/EnhanceFile.java", "example: a file through the model"),
    "android/LiveEnhancer.kt": ("android/LiveEnhancer.kt", "example: live sound, in Kotlin"),
}


def android_part(shipped: Shipped, model: str) -> Part:
    """Files for an app, and for timing the model on a phone.

    Args:
        shipped: an int8 or int16x8 model.
        model: its path in the bundle.

    Raises:
        ModelError: it cannot become C.
    """
    frontend = read_description(shipped.model).frontend
    files = {path: Entry(template(source).encode(), what) for path, (source, what) in _FILES.items()}
    benchmark = template("android/benchmark.sh", {"MODEL": model})
    return Part(
        files={
            **files,
            "android/benchmark.sh": Entry(benchmark.encode(), "times the model on a phone"),
            **generated_c(shipped.model),
        },
        usage=template(
            "android/usage.md",
            {"RATE": frontend.rate, "HOP": frontend.hop, "DELAY": frontend.delay_samples, "MODEL": model},
        ),
        untried=(
            "On a phone, nothing of this: the C, the JNI and the Java are tried with gcc and OpenJDK on a desktop.",
            "`LiveEnhancer.kt`, the LiteRT lines and the Gradle lines were not compiled; `benchmark.sh` was not run.",
        ),
    )
