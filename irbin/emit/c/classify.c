/* usage: @NAME@_classify PICTURE.ppm (binary PPM, "P6"): what the network sees in it.
 *
 * A picture of another size is cut to its middle and scaled by averages or nearest pixels, which is
 * not the scaling that the network was evaluated with.
 */
#include <stdio.h>
#include <stdlib.h>

#include "@NAME@.h"

enum { CHANNELS = @CHANNELS@, HEIGHT = @HEIGHT@, WIDTH = @WIDTH@, MOST_PIXELS = 1 << 26 };

#if !@READS_BYTES@
static const float mean[CHANNELS] = {@MEAN@};
static const float deviation[CHANNELS] = {@STD@};
#endif

static int next_number(FILE *file)
{
    int c = fgetc(file), value = 0, n = 0;
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = fgetc(file);
        c = fgetc(file);
    }
    for (; c >= '0' && c <= '9' && n < 8; c = fgetc(file), ++n) value = 10 * value + (c - '0');
    return n > 0 && n < 8 ? value : -1;
}

/* Mean of the picture's pixels that one of the network's covers; one at least. */
static float covered(const unsigned char *rgb, int width, int left, int top, int side_x, int side_y,
                     int x, int y, int channel)
{
    const int x0 = left + (int)((long long)x * side_x / WIDTH);
    const int y0 = top + (int)((long long)y * side_y / HEIGHT);
    int x1 = left + (int)((long long)(x + 1) * side_x / WIDTH);
    int y1 = top + (int)((long long)(y + 1) * side_y / HEIGHT);
    double sum = 0;
    if (x1 <= x0) x1 = x0 + 1;
    if (y1 <= y0) y1 = y0 + 1;
    for (int j = y0; j < y1; ++j)
        for (int i = x0; i < x1; ++i) sum += rgb[((size_t)j * (size_t)width + (size_t)i) * 3 + (size_t)channel];
    return (float)(sum / ((double)(x1 - x0) * (y1 - y0)));
}

static void fill(const unsigned char *rgb, int width, int height, @TYPE@ *image)
{
    /* the largest middle part of the network's shape */
    int side_x = width, side_y = height;
    if ((long long)width * HEIGHT > (long long)height * WIDTH)
        side_x = (int)((long long)height * WIDTH / HEIGHT);
    else
        side_y = (int)((long long)width * HEIGHT / WIDTH);
    if (side_x < 1) side_x = 1;
    if (side_y < 1) side_y = 1;
    const int left = (width - side_x) / 2, top = (height - side_y) / 2;
    for (int c = 0; c < CHANNELS; ++c)
        for (int y = 0; y < HEIGHT; ++y)
            for (int x = 0; x < WIDTH; ++x) {
                const float pixel = covered(rgb, width, left, top, side_x, side_y, x, y, c);
#if @READS_BYTES@
                image[(y * WIDTH + x) * CHANNELS + c] = (unsigned char)(pixel + 0.5f);
#else
                image[(c * HEIGHT + y) * WIDTH + x] = (pixel / 255.0f - mean[c]) / deviation[c];
#endif
            }
}

static unsigned char *read_picture(const char *path, int *width, int *height)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    unsigned char *rgb = NULL;
    const int is_ppm = fgetc(file) == 'P' && fgetc(file) == '6';
    *width = is_ppm ? next_number(file) : -1;
    *height = *width > 0 ? next_number(file) : -1;
    const int most = *height > 0 ? next_number(file) : -1;
    if (most == 255 && (long long)*width * *height <= MOST_PIXELS) {
        const size_t n = (size_t)*width * (size_t)*height * 3;
        rgb = malloc(n);
        if (rgb != NULL && fread(rgb, 1, n, file) != n) {
            free(rgb);
            rgb = NULL;
        }
    }
    fclose(file);
    return rgb;
}

int main(int n_arguments, char **arguments)
{
    static _Alignas(64) unsigned char arena[@UPPER@_ARENA_BYTES];
    static @TYPE@ image[@UPPER@_INPUT_@UNIT@];
    static float logits[@UPPER@_OUTPUT_FLOATS];
    int width = 0, height = 0;
    if (n_arguments != 2) {
        fprintf(stderr, "usage: @NAME@_classify PICTURE.ppm\n");
        return 2;
    }
    unsigned char *rgb = read_picture(arguments[1], &width, &height);
    if (rgb == NULL) {
        fprintf(stderr, "%s: expected a whole picture as binary PPM (P6) of 8 bits a number\n",
                arguments[1]);
        return 2;
    }
    fill(rgb, width, height, image);
    free(rgb);
    const irbin_status status = @RUN@(image, logits, arena, sizeof arena);
    if (status != IRBIN_OK) {
        fprintf(stderr, "%s\n", irbin_status_text(status));
        return 1;
    }
    int best = 0;
    for (int i = 1; i < @UPPER@_OUTPUT_FLOATS; ++i)
        if (logits[i] > logits[best]) best = i;
    printf("%s (logit %.3f)\n", @NAME@_classes[best], (double)logits[best]);
    return 0;
}
