"""The temporal adaptive module (Liu, Wang, Wu, Qian, Lu: "TAM: Temporal Adaptive Module ...", ICCV 2021)."""

from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.pooled_norm import PooledNorm
from timm_video_psn.layers.taps import weigh_taps
from timm_video_psn.layers.temporal_module import TemporalModule


class TemporalAdaptive(TemporalModule):
    """Each clip makes its own temporal kernels: what matters when (local branch), and how frames mix (global branch).

    As in the official repository (liu-zhy/temporal-adaptive-module, `TAM`), with theta the spatial mean of X, (C, T):

        V = sigmoid(conv1(relu(norm(conv_k(theta)))))             local, along time, C -> C/4 -> C
        K = softmax(linear(relu(norm(linear(theta_c)))))          global, for each channel c, T -> 2T -> k
        out_c = K_c * (V_c . X_c)                                 * along time, zeros at the ends

    It sits before the second convolution of each residual branch (`TemporalBottleneck` there: after the first
    convolution, its norm and its activation).

    The global branch reads whole clips: its weights are for one number of frames and no other.

    Args:
        channels: Channels of the map, at least 4.
        num_frames: Frames T of every clip.
        kernel_size: Frames k that a kernel spans; the official 3.

    Shape:
        x: (B*T, C, H, W) -> same

    Raises:
        ValueError: Too few channels, an even kernel, or, later, another number of frames.
    """

    placement = "before_conv2"
    __jit_unused_properties__ = ("num_frames",)  # TorchScript has no setters that refuse; forward reads the attribute

    def __init__(self, channels: int, num_frames: int = 8, kernel_size: int = 3):
        super().__init__(num_frames)
        if channels < 4:
            raise ValueError(f"channels={channels} is too few: the local branch has a quarter of them; use 4 or more")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} is even; use an odd number, for example 3")
        self.local_branch = nn.Sequential(
            nn.Conv1d(channels, channels // 4, kernel_size, padding=kernel_size // 2, bias=False),
            PooledNorm(channels // 4),
            nn.ReLU(inplace=True),
            nn.Conv1d(channels // 4, channels, 1, bias=False),
            nn.Sigmoid(),
        )
        self.global_branch = nn.Sequential(
            nn.Linear(num_frames, 2 * num_frames, bias=False),
            PooledNorm(2 * num_frames),
            nn.ReLU(inplace=True),
            nn.Linear(2 * num_frames, kernel_size, bias=False),
            nn.Softmax(-1),
        )

    @property
    def num_frames(self) -> int:
        """Frames T of every clip."""
        return self._num_frames

    @num_frames.setter
    def num_frames(self, value: int) -> None:
        built_for = self.__dict__.get("_num_frames", value)
        if value != built_for:
            raise ValueError(
                f"num_frames={value}: TAM's global branch is built for clips of {built_for} frames; use clips of "
                f"{built_for} frames, or build a model with num_frames={value}"
            )
        self._num_frames = value

    def forward(self, x: Tensor) -> Tensor:
        """Weighs the frames, then mix them."""
        height, width = x.shape[2:]
        frames = split_frames(x.flatten(2), self._num_frames)  # (B, T, C, H*W)
        means = split_frames(x.mean((2, 3)), self._num_frames).transpose(1, 2)  # (B, C, T)
        kernels = self.global_branch(means.flatten(0, 1)).unflatten(0, means.shape[:2])  # (B, C, k)
        weights = self.local_branch(means).transpose(1, 2)  # (B, T, C)
        return weigh_taps(frames * weights[..., None], kernels).flatten(0, 1).unflatten(2, (height, width))
