# The API and the worker in one image: `gestalt api` or `gestalt worker`. The database is brought by docker-compose.yml.
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
# The embedded database is left out; the libraries of koffi and sharp, which npm counts as optional too, are not.
RUN npm run build && mkdir /kept && cp -r node_modules/@koromix node_modules/@img /kept \
    && npm prune --omit=dev --omit=optional && cp -r /kept/. node_modules
# ONNX Runtime brings its libraries for every platform: 220 MB that this one cannot load.
RUN cd node_modules/onnxruntime-node/bin/napi-v6 \
    && find . -mindepth 2 -maxdepth 2 ! -path "./linux/$(node -p process.arch)" -exec rm -r {} + \
    && find . -type d -empty -delete

FROM node:24-bookworm-slim AS service
ENV NODE_ENV=production GESTALT_HOME=/var/lib/gestalt
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /app/bin bin
COPY --from=build /app/prisma/migrations prisma/migrations
COPY --from=build /app/datasets datasets
COPY --from=build /app/recipes recipes
RUN mkdir -p /var/lib/gestalt && chown node:node /var/lib/gestalt
USER node
VOLUME /var/lib/gestalt
EXPOSE 4000
ENTRYPOINT ["node", "bin/gestalt.js"]
CMD ["api"]

# For engines that compute on GPUs by Vulkan: its loader. The driver comes from the host, by the container runtime.
FROM service AS gpu
USER root
RUN apt-get update && apt-get install -y --no-install-recommends libvulkan1 && rm -rf /var/lib/apt/lists/*
USER node

FROM service
