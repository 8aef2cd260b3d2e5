"""Plain transcriptions of PyNET and the released PyNET-QxQ from their descriptions, as references for measurements.

They pad, convolve, normalise and activate in separate steps and keep every feature map until the picture is done.
PyNET-QxQ leaves torch and puts the mosaic together block by block in numpy. The parameters have the names of the
releases, so both take the same weights as `zoo.pynet.PyNET` and `zoo.pynet.PyNETQxQ`.
"""

import numpy as np
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, inputs, outputs, kernel, *, norm):
        super().__init__()
        self.pad = nn.ReflectionPad2d(kernel // 2)
        self.conv2d = nn.Conv2d(inputs, outputs, kernel)
        self.instance = nn.InstanceNorm2d(outputs, affine=True) if norm else None
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x):
        x = self.conv2d(self.pad(x))
        if self.instance is not None:
            x = self.instance(x)
        return self.activation(x)


class Block(nn.Module):
    def __init__(self, inputs, width, largest, *, norm=False):
        super().__init__()
        self.kernels = range(3, largest + 1, 2)
        for kernel in self.kernels:
            self.add_module(f"conv_{kernel}a", Layer(inputs, width, kernel, norm=norm))
            self.add_module(f"conv_{kernel}b", Layer(width, width, kernel, norm=norm))

    def forward(self, x):
        outputs = []
        for kernel in self.kernels:
            first = getattr(self, f"conv_{kernel}a")(x)
            outputs.append(getattr(self, f"conv_{kernel}b")(first))
        return torch.cat(outputs, 1)


class Up(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.upchannel = nn.Conv2d(width, 4 * width, 3)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.upchannel(self.pad(x)))


class UpLayer(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.pad = nn.ReflectionPad2d(1)
        self.conv2d = nn.Conv2d(inputs, outputs, 3)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x):
        return self.activation(self.conv2d(self.pad(self.larger(x))))


class Last(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.conv2d = nn.Conv2d(inputs, 3, 3)

    def forward(self, x):
        return torch.sigmoid(self.conv2d(self.pad(x)))


class ReleasedPyNETQxQ(nn.Module):
    def __init__(self, width=16, *, norm=True):
        super().__init__()
        self.conv_l1_d1 = Block(4, width, 3)
        self.conv_l1_d3 = Block(width, width, 5)
        self.conv_l1_d5 = Block(3 * width, width, 7, norm=norm)
        self.conv_l1_d6 = Block(3 * width, width, 9, norm=norm)
        self.conv_l1_d7 = Block(4 * width, width, 9, norm=norm)
        self.conv_l1_d8 = Block(4 * width, width, 9, norm=norm)
        self.conv_l1_d9 = Block(4 * width, width, 9, norm=norm)
        self.conv_l1_d10 = Block(4 * width, width, 7, norm=norm)
        self.conv_l1_d12 = Block(4 * width, width, 5, norm=norm)
        self.conv_l1_d14 = Block(3 * width, width, 3)
        self.conv_t0 = Up(width)
        self.conv_l0_d1 = Last(width + 1)

    def forward(self, x):
        d1 = self.conv_l1_d1(x)
        d3 = self.conv_l1_d3(d1)
        d4 = torch.cat([d3, d1], 1)
        d5 = self.conv_l1_d5(d4)
        d6 = self.conv_l1_d6(d5)
        d7 = self.conv_l1_d7(d6) + d6
        d8 = self.conv_l1_d8(d7) + d7
        d9 = self.conv_l1_d9(d8) + d8
        d10 = self.conv_l1_d10(d9)
        d11 = torch.cat([d10, d1], 1)
        d12 = self.conv_l1_d12(d11)
        d13 = torch.cat([d12, d1], 1)
        d14 = self.conv_l1_d14(d13)
        t0 = self.conv_t0(d14)
        l0 = torch.cat([t0, torch.from_numpy(mosaic_of(x.numpy()))], 1)
        return self.conv_l0_d1(l0)


class ReleasedPyNET(nn.Module):
    def __init__(self, width=32, *, norm=True, norm_1=True):
        super().__init__()
        self.pool = nn.MaxPool2d(2)

        self.conv_l1_d1 = Block(4, width, 3)
        self.conv_l2_d1 = Block(width, 2 * width, 3, norm=norm)
        self.conv_l3_d1 = Block(2 * width, 4 * width, 3, norm=norm)
        self.conv_l4_d1 = Block(4 * width, 8 * width, 3, norm=norm)

        self.conv_l5_d1 = Block(8 * width, 16 * width, 3, norm=norm)
        self.conv_l5_d2 = Block(16 * width, 16 * width, 3, norm=norm)
        self.conv_l5_d3 = Block(16 * width, 16 * width, 3, norm=norm)
        self.conv_l5_d4 = Block(16 * width, 16 * width, 3, norm=norm)
        self.conv_t4a = UpLayer(16 * width, 8 * width)
        self.conv_t4b = UpLayer(16 * width, 8 * width)
        self.conv_l5_out = Last(16 * width)

        self.conv_l4_d3 = Block(16 * width, 8 * width, 3, norm=norm)
        self.conv_l4_d4 = Block(8 * width, 8 * width, 3, norm=norm)
        self.conv_l4_d5 = Block(8 * width, 8 * width, 3, norm=norm)
        self.conv_l4_d6 = Block(8 * width, 8 * width, 3, norm=norm)
        self.conv_l4_d8 = Block(16 * width, 8 * width, 3, norm=norm)
        self.conv_t3a = UpLayer(8 * width, 4 * width)
        self.conv_t3b = UpLayer(8 * width, 4 * width)
        self.conv_l4_out = Last(8 * width)

        self.conv_l3_d3 = Block(8 * width, 4 * width, 5, norm=norm)
        self.conv_l3_d4 = Block(8 * width, 4 * width, 5, norm=norm)
        self.conv_l3_d5 = Block(8 * width, 4 * width, 5, norm=norm)
        self.conv_l3_d6 = Block(8 * width, 4 * width, 5, norm=norm)
        self.conv_l3_d8 = Block(16 * width, 4 * width, 3, norm=norm)
        self.conv_t2a = UpLayer(4 * width, 2 * width)
        self.conv_t2b = UpLayer(4 * width, 2 * width)
        self.conv_l3_out = Last(4 * width)

        self.conv_l2_d3 = Block(4 * width, 2 * width, 5, norm=norm)
        self.conv_l2_d5 = Block(6 * width, 2 * width, 7, norm=norm)
        self.conv_l2_d6 = Block(6 * width, 2 * width, 7, norm=norm)
        self.conv_l2_d7 = Block(6 * width, 2 * width, 7, norm=norm)
        self.conv_l2_d8 = Block(6 * width, 2 * width, 7, norm=norm)
        self.conv_l2_d10 = Block(8 * width, 2 * width, 5, norm=norm)
        self.conv_l2_d12 = Block(6 * width, 2 * width, 3, norm=norm)
        self.conv_t1a = UpLayer(2 * width, width)
        self.conv_t1b = UpLayer(2 * width, width)
        self.conv_l2_out = Last(2 * width)

        self.conv_l1_d3 = Block(2 * width, width, 5)
        self.conv_l1_d5 = Block(3 * width, width, 7, norm=norm_1)
        self.conv_l1_d6 = Block(3 * width, width, 9, norm=norm_1)
        self.conv_l1_d7 = Block(4 * width, width, 9, norm=norm_1)
        self.conv_l1_d8 = Block(4 * width, width, 9, norm=norm_1)
        self.conv_l1_d9 = Block(4 * width, width, 9, norm=norm_1)
        self.conv_l1_d10 = Block(4 * width, width, 7, norm=norm_1)
        self.conv_l1_d12 = Block(4 * width, width, 5, norm=norm_1)
        self.conv_l1_d14 = Block(4 * width, width, 3)
        self.conv_l1_out = Last(width)

        self.conv_t0 = UpLayer(width, width // 2)
        self.conv_l0_d1 = Last(width // 2)

    def forward(self, x):
        l1_d1 = self.conv_l1_d1(x)
        l2_d1 = self.conv_l2_d1(self.pool(l1_d1))
        l3_d1 = self.conv_l3_d1(self.pool(l2_d1))
        l4_d1 = self.conv_l4_d1(self.pool(l3_d1))

        l5_d1 = self.conv_l5_d1(self.pool(l4_d1))
        l5_d2 = self.conv_l5_d2(l5_d1)
        l5_d3 = self.conv_l5_d3(l5_d2)
        l5_d4 = self.conv_l5_d4(l5_d3)
        self.conv_l5_out(l5_d4)

        l4_d2 = torch.cat([l4_d1, self.conv_t4a(l5_d4)], 1)
        l4_d3 = self.conv_l4_d3(l4_d2)
        l4_d4 = self.conv_l4_d4(l4_d3) + l4_d3
        l4_d5 = self.conv_l4_d5(l4_d4) + l4_d4
        l4_d6 = self.conv_l4_d6(l4_d5)
        l4_d7 = torch.cat([l4_d6, self.conv_t4b(l5_d4)], 1)
        l4_d8 = self.conv_l4_d8(l4_d7)
        self.conv_l4_out(l4_d8)

        l3_d2 = torch.cat([l3_d1, self.conv_t3a(l4_d8)], 1)
        l3_d3 = self.conv_l3_d3(l3_d2) + l3_d2
        l3_d4 = self.conv_l3_d4(l3_d3) + l3_d3
        l3_d5 = self.conv_l3_d5(l3_d4) + l3_d4
        l3_d6 = self.conv_l3_d6(l3_d5)
        l3_d7 = torch.cat([l3_d6, l3_d1, self.conv_t3b(l4_d8)], 1)
        l3_d8 = self.conv_l3_d8(l3_d7)
        self.conv_l3_out(l3_d8)

        l2_d2 = torch.cat([l2_d1, self.conv_t2a(l3_d8)], 1)
        l2_d3 = self.conv_l2_d3(l2_d2)
        l2_d4 = torch.cat([l2_d3, l2_d1], 1)
        l2_d5 = self.conv_l2_d5(l2_d4) + l2_d4
        l2_d6 = self.conv_l2_d6(l2_d5) + l2_d5
        l2_d7 = self.conv_l2_d7(l2_d6) + l2_d6
        l2_d8 = self.conv_l2_d8(l2_d7)
        l2_d9 = torch.cat([l2_d8, l2_d1], 1)
        l2_d10 = self.conv_l2_d10(l2_d9)
        l2_d11 = torch.cat([l2_d10, self.conv_t2b(l3_d8)], 1)
        l2_d12 = self.conv_l2_d12(l2_d11)
        self.conv_l2_out(l2_d12)

        l1_d2 = torch.cat([l1_d1, self.conv_t1a(l2_d12)], 1)
        l1_d3 = self.conv_l1_d3(l1_d2)
        l1_d4 = torch.cat([l1_d3, l1_d1], 1)
        l1_d5 = self.conv_l1_d5(l1_d4)
        l1_d6 = self.conv_l1_d6(l1_d5)
        l1_d7 = self.conv_l1_d7(l1_d6) + l1_d6
        l1_d8 = self.conv_l1_d8(l1_d7) + l1_d7
        l1_d9 = self.conv_l1_d9(l1_d8) + l1_d8
        l1_d10 = self.conv_l1_d10(l1_d9)
        l1_d11 = torch.cat([l1_d10, l1_d1], 1)
        l1_d12 = self.conv_l1_d12(l1_d11)
        l1_d13 = torch.cat([l1_d12, self.conv_t1b(l2_d12), l1_d1], 1)
        l1_d14 = self.conv_l1_d14(l1_d13)
        self.conv_l1_out(l1_d14)

        return self.conv_l0_d1(self.conv_t0(l1_d14))


def mosaic_of(packed):
    """Return a GRBG mosaic of 4x4 blocks, in loops, from the planes blue, green of red's rows, red, green of blue's."""
    count, _, height, width = packed.shape
    mosaic = np.zeros((count, 1, 2 * height, 2 * width), np.float32)
    offsets = [(4, 0), (0, 0), (0, 4), (4, 4)]
    for sample in range(count):
        for plane, (top, left) in enumerate(offsets):
            for row in range(0, height, 4):
                for column in range(0, width, 4):
                    block = packed[sample, plane, row : row + 4, column : column + 4]
                    y, x = 2 * row + top, 2 * column + left
                    mosaic[sample, 0, y : y + 4, x : x + 4] = block
    return mosaic
