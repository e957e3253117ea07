"""Names that options accept, without importing the modules whose tables hold them; a test compares the two."""

SAMPLINGS = ("segments", "tsm", "dense", "uniform")
TEST_SAMPLINGS = ("segments", "tsm", "twice", "dense", "uniform")
VIEW_FUSIONS = ("logits", "probabilities")
FILE_DATASETS = ("diving48", "folder", "k400", "list", "motion", "sthv1", "sthv2")  # all but shards
EXPORT_FORMATS = ("torch", "onnx", "executorch", "aoti")
EXPORT_LAYOUTS = ("clip", "frames", "stream")
WEIGHT_SOURCES = ("tsm", "gst", "tea", "tam", "torchvision", "timm")
BENCHMARK_MODES = (
    *("eager", "compiled", "cudagraphs", "folded", "folded-compiled", "folded-cudagraphs", "onnx", "stream"),
)
BENCHMARK_DTYPES = ("float32", "bfloat16")
CAM_METHODS = ("gradcam", "hirescam")
REPORT_VIDEOS = 600
KEY_FRAME_INTERVAL = 16
